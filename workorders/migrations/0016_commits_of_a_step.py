"""A run's number of commits is its step's own; before, it was that of all steps of its phase so far."""

from itertools import groupby

from django.db import migrations, models


def count_apart(apps, schema_editor):
    """Take from each follow-up's number what the steps of its phase before it had."""
    runs = apps.get_model("workorders", "PhaseRun").objects.exclude(kind="delivery")
    orders = runs.filter(prompt_id__isnull=False).values("agent_work_order_id")
    columns = ("pk", "agent_work_order_id", "phase", "prompt_id", "commits")
    rows = runs.filter(agent_work_order_id__in=orders).order_by("agent_work_order_id", "phase", "sequence")
    listed = rows.values_list(*columns)
    for _phase, of_phase in groupby(listed.iterator(), key=lambda row: row[1:3]):
        so_far = 0
        for _step, of_step in groupby(of_phase, key=lambda row: row[3]):
            before = so_far
            for pk, _order, _name, _prompt, commits in of_step:
                so_far = max(so_far, commits)
                if before:
                    runs.filter(pk=pk).update(commits=max(0, commits - before))


class Migration(migrations.Migration):

    dependencies = [
        ('workorders', '0015_written_texts'),
    ]

    operations = [
        migrations.AlterField(
            model_name='phaserun',
            name='commits',
            field=models.PositiveIntegerField(default=0, help_text="its step's commits, of earlier attempts as well, when it was last seen"),
        ),
        migrations.RunPython(count_apart, migrations.RunPython.noop),
    ]
