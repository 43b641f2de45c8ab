"""Static files: hashed and compressed once collected, plain from their sources before that."""

from whitenoise.storage import CompressedManifestStaticFilesStorage


class CollectedOrPlainStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # whitenoise has no types
    """Without a manifest (tests, commands, a first start) names stay as they are and finders serve them."""

    manifest_strict = False

    def stored_name(self, name: str) -> str:
        stored: str = super().stored_name(name) if self.hashed_files else name
        return stored
