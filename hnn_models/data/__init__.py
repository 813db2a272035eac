"""Images: the data sets, folders of images, augmentation and batches."""
