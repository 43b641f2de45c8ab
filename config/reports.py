"""What Django tells of an exception, on its debug pages and in mails: requests, variables and all, without secrets."""

from django.views.debug import ExceptionReporter

from workorders.redaction import redact


class MaskedReporter(ExceptionReporter):
    def get_traceback_html(self) -> str:
        return redact(super().get_traceback_html())

    def get_traceback_text(self) -> str:
        return redact(super().get_traceback_text())
