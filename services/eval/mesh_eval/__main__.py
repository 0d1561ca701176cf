"""`python -m mesh_eval serve|migrate|dead-letters`."""

from mesh_common.service_main import service_main

from mesh_eval.settings import EvalMigrationSettings, EvalSettings

if __name__ == "__main__":
    service_main(
        "eval",
        settings_class=EvalSettings,
        migration_settings_class=EvalMigrationSettings,
        job_table="eval.jobs",
    )
