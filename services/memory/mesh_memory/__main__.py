"""`python -m mesh_memory serve|migrate|dead-letters`."""

from mesh_common.service_main import service_main

from mesh_memory.settings import MemoryMigrationSettings, MemorySettings

if __name__ == "__main__":
    service_main(
        "memory",
        settings_class=MemorySettings,
        migration_settings_class=MemoryMigrationSettings,
        job_table="memory.jobs",
    )
