"""What Django tells of an exception, on its debug pages and in mails: requests, variables and all, without secrets."""

from django.utils.safestring import SafeString
from django.views.debug import ExceptionReporter

from workorders.text.redaction import redact


class MaskedReporter(ExceptionReporter):
    def get_traceback_html(self) -> SafeString:
        return SafeString(redact(super().get_traceback_html()))  # nosec B703  # Django's own page, escaped by it

    def get_traceback_text(self) -> SafeString:
        return SafeString(redact(super().get_traceback_text()))  # nosec B703  # plain text, never shown as HTML
