"""The rules by which a folder of images is listed: its parts, its classes, and what is left out."""

import os
import re
import unicodedata
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError

# Spellings of the three parts, in lower case; separators do not count ("train-set", "Train Set").
PARTS = {
    **dict.fromkeys(("train", "training", "trainset", "trainingset"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "valset", "validset", "validationset"), "val"),
    **dict.fromkeys(("test", "testing", "testset", "testingset"), "test"),
}
# The beginnings of other spellings: these are never used, but their folders are not taken for classes.
_LIKE_PART = re.compile("train|test|val|dev|eval|(?:tr|te)$")
# What systems leave in folders, in lower case. Names that begin with a dot are left out too.
SYSTEM = {
    *("__macosx", "icon\r", "network trash folder", "temporary items"),  # macOS
    *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "recycler"),  # Windows
    "system volume information",
    "lost+found",  # Linux
    *("@eadir", "@tmp", "@recycle", "#recycle", "#snapshot", "@recently-snapshot"),  # NAS
}
# A file with such a name beside the class folders is an image without a class.
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm")
EXPECTED = "train/<class>/... and test/<class>/..., with or without val/<class>/..., or <class>/... alone"
NAMED = 5  # how many files a message names


class Listing(NamedTuple):
    """The images of a folder.

    Attributes:
        classes: the names of the class folders, sorted.
        files: the images, part after part, with the number of their class.
        parts: how many of ``files`` each part has, by its name (``"train"``, ``"val"``, ``"test"``); empty where the
            classes stand alone.
    """

    classes: tuple[str, ...]
    files: list[tuple[Path, int]]
    parts: dict[str, int]


def survey(root: Path) -> Listing:
    """List the images of ``root``: ``train/<class>/...`` and ``test/<class>/...``, or ``<class>/...`` alone.

    The order is that of the names' code points, whatever the file system and the locale. Entries that are left out are
    named in one warning; a class with a single image in another.

    Raises:
        DataError: the folder is not laid out like that; the message says what was expected.
    """
    return _Survey(root).run()


def some(things: list[str]) -> str:
    """The first of ``things``, and how many more there are."""
    more = f" and {len(things) - NAMED} more" if len(things) > NAMED else ""
    return f"{', '.join(things[:NAMED])}{more}"


class _Survey:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.left_out: Counter[str] = Counter()

    def run(self) -> Listing:
        folders, files = self._entries(self.root, note=False)
        spelled = {name: PARTS[key] for name in folders if (key := _key(name)) in PARTS}
        with_folders = [name for name in spelled if self._entries(self.root / name, note=False)[0]]
        if not with_folders and len(spelled) < len(folders):
            spelled = {}  # classes with such a name, "train" beside "bus" and "car": they hold images and no folder
        if spelled:
            parts = self._parts(spelled)
            self._entries(self.root)
            self.left_out.update(name for name in [*folders, *files] if name not in spelled)
            listings = {part: self._classes(self.root / name) for part, name in parts.items()}
        else:
            if not folders:
                held = "files and no folder" if files else "nothing"
                raise DataError(
                    f"{self.root} is not a folder of images in folders named for their classes: it holds {held}; "
                    f"expected {EXPECTED}"
                )
            self._look_for_parts(folders)
            listings = {"": self._classes(self.root)}
        classes = self._common(listings)
        number = {name: i for i, name in enumerate(classes)}
        samples = [(path, number[name]) for part in listings.values() for name in part for path in part[name]]
        if self.left_out:
            names = [f"{name!r}" + (f" ({count} times)" if count > 1 else "") for name, count in self.left_out.items()]
            warnings.warn(f"left out of {self.root}: {', '.join(sorted(names))}", stacklevel=6)
        total = Counter(label for _, label in samples)
        single = [f"{name!r}" for i, name in enumerate(classes) if total[i] == 1]
        if single:
            warnings.warn(
                f"classes of {self.root} with one image, which cannot be both learnt and tested: {some(single)}",
                stacklevel=6,
            )
        counts = {part: sum(map(len, listing.values())) for part, listing in listings.items() if part}
        return Listing(classes, samples, counts)

    def _look_for_parts(self, folders: list[str]) -> None:
        """Refuse parts in a spelling that is not known, such as ``train_images`` and ``test_images``, as classes.

        They are folders that are called like two parts, and hold the same two folders or more.
        """
        inside = {
            name: (found[0], set(self._entries(self.root / name, note=False)[0]))
            for name in folders
            if (found := _LIKE_PART.match(_key(name)))
        }
        for name, (part, held) in inside.items():
            for other, (another, also) in inside.items():
                if part != another and len(held & also) > 1:
                    raise DataError(
                        f"{self.root} has {name} and {other}, which hold the same folders like parts of a data set; "
                        f"expected {EXPECTED}"
                    )

    def _parts(self, spelled: dict[str, str]) -> dict[str, str]:
        """The folder of each part, in the order train, val, test."""
        for part in ("train", "val", "test"):
            if len(names := [name for name in spelled if spelled[name] == part]) > 1:
                raise DataError(f"{self.root} has {' and '.join(names)}: only one of them can be the part {part!r}")
        parts: dict[str, str] = {
            part: name for part in ("train", "val", "test") for name in spelled if spelled[name] == part
        }
        for needed in ("train", "test"):
            if needed not in parts and (needed == "train" or len(parts) == 1):
                only = parts[next(iter(parts))]
                raise DataError(
                    f"{self.root} has {' and '.join(parts.values())} but not {needed}; expected {EXPECTED} (name "
                    f"{self.root / only} instead, to use it alone)"
                )
        return parts

    def _classes(self, part: Path) -> dict[str, list[Path]]:
        """The images of each class folder in ``part``."""
        folders, files = self._entries(part)
        loose = [str(part / name) for name in files if name.lower().endswith(SUFFIXES)]
        if loose:
            raise DataError(f"images in no class folder: {some(loose)}; expected {EXPECTED}")
        self.left_out.update(files)
        images: dict[str, list[Path]] = {}
        for name in folders:
            inside = self._entries(part / name, note=False)[0]
            deeper = [inner for inner in inside if _key(inner) in PARTS]
            if deeper:
                raise DataError(
                    f"{part / name} holds {' and '.join(deeper)}, one level deeper than expected; name {part / name} "
                    f"if it is the data set (expected {EXPECTED})"
                )
            images[name] = self._below(part / name, ())
        empty = [str(part / name) for name, paths in images.items() if not paths]
        if empty:
            raise DataError(f"no images in the class folders {some(empty)}")
        self._distinct(part, images)
        if len(images) < 2:
            found = f"the only one is {part / next(iter(images))}" if images else "there is none"
            deeper = self._entries(part / next(iter(images)), note=False)[0] if images else []
            hint = f"; name it instead if {some(deeper)} are the classes" if deeper else ""
            raise DataError(f"{part} must have at least two class folders; {found}{hint}")
        return images

    def _below(self, folder: Path, around: tuple[tuple[int, int], ...]) -> list[Path]:
        """All files below ``folder``: its own first, then those of each folder in it."""
        status = folder.stat()
        here = (status.st_dev, status.st_ino)
        if here in around:
            raise DataError(f"{folder} is a link to a folder that holds it")
        folders, files = self._entries(folder)
        groups = [(str(folder), [folder / name for name in files])]
        for name in folders:
            below = self._below(folder / name, (*around, here))
            groups += [(str(path.parent), [path]) for path in below]
        return [path for _, paths in sorted(groups, key=lambda group: group[0]) for path in paths]

    def _entries(self, folder: Path, note: bool = True) -> tuple[list[str], list[str]]:
        """The names of the folders and of the files in ``folder``, sorted; the others are noted as left out."""
        folders, files, odd = [], [], []
        try:
            for entry in os.scandir(folder):
                # What a link leads to is asked for by name: an entry that leads to itself raises an error.
                target = Path(entry.path) if entry.is_symlink() else entry
                if entry.name.startswith(".") or entry.name.casefold() in SYSTEM:
                    if note:
                        self.left_out[entry.name] += 1
                elif target.is_dir():
                    folders.append(entry.name)
                elif target.is_file():
                    files.append(entry.name)
                else:
                    odd.append(f"{entry.path} ({'a link to nothing' if entry.is_symlink() else 'no regular file'})")
        except OSError as error:
            raise DataError(
                f"{folder} is not a folder of images in folders named for their classes: {error}"
            ) from error
        if odd:
            raise DataError(f"neither files nor folders: {some(sorted(odd))}")
        return sorted(folders), sorted(files)

    def _distinct(self, part: Path, names: dict[str, list[Path]]) -> None:
        """Refuse class folders that some file systems take for one."""
        folded: dict[str, str] = {}
        for name in names:
            other = folded.setdefault(_folded(name), name)
            if other != name:
                raise DataError(f"the class folders {other!r} and {name!r} of {part} differ only in writing")

    def _common(self, listings: dict[str, dict[str, list[Path]]]) -> tuple[str, ...]:
        """The classes, the same in every part."""
        where = {
            name: [part for part in listings if name in listings[part]] for each in listings.values() for name in each
        }
        partial = sorted(name for name, parts in where.items() if len(parts) < len(listings))
        if not partial:
            return tuple(next(iter(listings.values())))
        *first, last = listings
        kind = "only one" if len(listings) == 2 else "not every one"
        found = some([f"{name} ({' and '.join(where[name])})" for name in partial])
        written = len({_folded(name) for name in partial}) < len(partial)
        hint = "; some differ only in writing" if written else ""
        raise DataError(
            f"{', '.join(first)} and {last} of {self.root} must have the same classes; {kind} of them has {found}{hint}"
        )


def _key(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "").replace(" ", "")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold().strip()
