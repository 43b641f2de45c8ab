import github_app.models
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('github_app', '0005_identity'),
    ]

    operations = [
        migrations.AddField(
            model_name='repository',
            name='submodules_allowed',
            field=models.TextField(blank=True, default='', help_text='One owner/name a line: private repositories, connected here, that may be fetched as submodules.', validators=[github_app.models.validate_allowed]),
        ),
    ]
