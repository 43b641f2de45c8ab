"""`doctor`: says what is missing on this machine and how to get it. Changes nothing."""

import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand

from sandboxes.findings import Finding, Mark
from workorders.management.doctor.diagnosis import examine

_SIGNS = {Mark.OK: "✓", Mark.WARNING: "!", Mark.FAILED: "✗"}


class Command(BaseCommand):
    help = "Say what is missing here and how to get it; exit 1 if work orders cannot run."
    requires_system_checks = []  # they are among the findings

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="findings as JSON")

    def handle(self, *_args: Any, **options: Any) -> None:
        findings = examine()
        failures = [finding for finding in findings if finding.mark is Mark.FAILED]
        if options["json"]:
            report = {"ok": not failures, "findings": [asdict(finding) for finding in findings]}
            self.stdout.write(json.dumps(report, indent=2, ensure_ascii=False))
        else:
            self._print(findings, failures)
        if failures:
            sys.exit(1)

    def _print(self, findings: list[Finding], failures: list[Finding]) -> None:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            self.stdout.write(f"{_SIGNS[finding.mark]} {finding.name:<{width}}  {finding.message}")
            if finding.hint:
                self.stdout.write(f"  {'':<{width}}  → {finding.hint}")
        if failures:
            self.stdout.write(f"\nWork orders cannot run here yet: {len(failures)} to put right (✗).")
        else:
            self.stdout.write("\nWork orders can run here.")
