"""The errors of data sets."""


class DataError(RuntimeError):
    """A data set that is missing, damaged or not laid out as expected; the message names the files."""


class MissingFilesError(DataError):
    """Files of a data set that are missing, and that can be downloaded."""


class TooLargeError(DataError, MemoryError):
    """A data set that needs more memory than there is."""
