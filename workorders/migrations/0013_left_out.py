from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("workorders", "0012_withdrawals")]

    operations = [
        migrations.AddField(
            model_name="phaserun",
            name="left_out",
            field=models.JSONField(
                blank=True,
                default=list,
                help_text="what the sweep did not commit: rule, path and detail of each",
            ),
        ),
    ]
