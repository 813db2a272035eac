import_error = ImportError("not written yet")
