"""What people wrote, to the letter, where it is not what may be shown.

The columns that everybody reads (`initial_prompt`, `prompt_text`, `github_issue_title`, `github_issue_body`) hold the
text as it is shown: secrets masked, control characters taken out. Where that differs from what was written, the
original has a row here. Nothing leads from an order to it: no relation back, no admin, no read model. `written_request`
is the one reader, and the agent's prompt the one use.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import Q

from workorders.models import statements
from workorders.models.agent_work_order import AgentWorkOrder
from workorders.models.prompt import AgentPrompt
from workorders.text.redaction import current, redact

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


class TextPart(StrEnum):
    """Which of an order's texts; named as the column that shows it."""

    INITIAL_PROMPT = "initial_prompt"
    ISSUE_TITLE = "github_issue_title"
    ISSUE_BODY = "github_issue_body"
    PROMPT_TEXT = "prompt_text"


if TYPE_CHECKING:
    _WrittenField = models.TextField
else:

    class _WrittenField(models.TextField):
        """Serialised (`dumpdata`) as it is shown."""

        def deconstruct(self):
            name, _path, arguments, options = super().deconstruct()
            return name, "django.db.models.TextField", arguments, options

        def value_to_string(self, obj):
            return shown(self.value_from_object(obj))


class WrittenText(models.Model):
    """One original; `agent_prompt` is set for a follow-up's."""

    agent_work_order = models.ForeignKey(AgentWorkOrder, on_delete=models.CASCADE, related_name="+")
    agent_prompt = models.OneToOneField(AgentPrompt, on_delete=models.CASCADE, null=True, related_name="+")
    part = models.CharField(max_length=20, choices=[(item.value, item.value) for item in TextPart])
    text = _WrittenField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["agent_work_order", "part"],
                condition=Q(agent_prompt__isnull=True),
                name="written_text_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.part} {self.pk}"


def shown(text: str) -> str:
    """The text as any page, answer, log, command or pull request may have it."""
    return redact(_CONTROL.sub("", text))


def keep_written(order_pk: int, part: TextPart, text: str, *, prompt_pk: int | None = None) -> None:
    """Beside the row whose column has `shown(text)`, in its transaction; the part must not be kept yet.

    Secrets of this server are in no row: what people send is refused for them, and an issue may hold one all the same.
    """
    if shown(text) != text:
        kept = current().without_known(text)
        WrittenText.objects.create(
            agent_work_order_id=order_pk, agent_prompt_id=prompt_pk, part=part, text=kept
        )


def keep_issue(order_pk: int, *, title: str, body: str) -> None:
    """The texts of an order's issue, in the place of those that were kept before."""
    parts = {TextPart.ISSUE_TITLE: title, TextPart.ISSUE_BODY: body}
    WrittenText.objects.filter(agent_work_order=order_pk, part__in=parts).delete()
    for part, text in parts.items():
        keep_written(order_pk, part, text)


@dataclass(frozen=True)
class WrittenRequest:
    """All that an order asks for, as it was written, but for secrets of this server, which no agent gets."""

    initial_prompt: str = field(repr=False)
    issue_title: str = field(repr=False)
    issue_body: str = field(repr=False)
    follow_up: str = field(repr=False)


def written_request(order_pk: int, *, prompt_pk: int | None) -> WrittenRequest:
    """`prompt_pk` is the follow-up's that is carried out. Only for what the agent is told."""
    columns = (TextPart.INITIAL_PROMPT, TextPart.ISSUE_TITLE, TextPart.ISSUE_BODY)
    order = statements.values(AgentWorkOrder, {"pk": order_pk}, *columns)[0]
    texts: dict[str, Any] = {**dict(zip(columns, order, strict=True)), TextPart.PROMPT_TEXT: ""}
    if prompt_pk is not None:
        texts[TextPart.PROMPT_TEXT] = AgentPrompt.objects.values_list("prompt_text", flat=True).get(
            pk=prompt_pk
        )
    for of_prompt in {None, prompt_pk}:
        which = {"agent_work_order": order_pk, "agent_prompt": of_prompt}
        texts.update(dict(statements.values(WrittenText, which, "part", "text")))
    own = current()
    return WrittenRequest(
        initial_prompt=own.without_known(texts[TextPart.INITIAL_PROMPT]),
        issue_title=own.without_known(texts[TextPart.ISSUE_TITLE]),
        issue_body=own.without_known(texts[TextPart.ISSUE_BODY]),
        follow_up=own.without_known(texts[TextPart.PROMPT_TEXT]),
    )
