"""Static files: hashed and compressed once collected, plain from their sources before that."""

from whitenoise.storage import CompressedManifestStaticFilesStorage


class CollectedOrPlainStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # whitenoise has no types
    """Names that the manifest does not have (tests, a first start, files newer than it) stay as they are.

    Finders serve those, so that a page never fails for want of a collected file.
    """

    manifest_strict = False

    def stored_name(self, name: str) -> str:
        known = self.hash_key(self.clean_name(name)) in self.hashed_files
        stored: str = super().stored_name(name) if known else name
        return stored
