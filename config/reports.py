"""What Django tells of an exception, on its debug pages and in mails: requests, variables and all, without secrets."""

from django.utils.safestring import SafeString
from django.views.debug import ExceptionReporter

from workorders.redaction import redact


class MaskedReporter(ExceptionReporter):
    def get_traceback_html(self) -> SafeString:
        return SafeString(redact(super().get_traceback_html()))

    def get_traceback_text(self) -> SafeString:
        return SafeString(redact(super().get_traceback_text()))
