import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """What people wrote, where it is not what may be shown. Orders from before have what was stored then."""

    dependencies = [
        ('workorders', '0014_prompt_outcomes'),
    ]

    operations = [
        migrations.CreateModel(
            name='WrittenText',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('part', models.CharField(choices=[('initial_prompt', 'initial_prompt'), ('github_issue_title', 'github_issue_title'), ('github_issue_body', 'github_issue_body'), ('prompt_text', 'prompt_text')], max_length=20)),
                ('text', models.TextField()),
                ('agent_prompt', models.OneToOneField(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='workorders.agentprompt')),
                ('agent_work_order', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='workorders.agentworkorder')),
            ],
            options={
                'constraints': [models.UniqueConstraint(condition=models.Q(('agent_prompt__isnull', True)), fields=('agent_work_order', 'part'), name='written_text_once')],
            },
        ),
    ]
