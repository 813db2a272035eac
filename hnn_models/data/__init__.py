"""Image sets: named ones, folders of images, how they are changed and cut into batches."""
