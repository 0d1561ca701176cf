"""`python -m mesh_agent serve|migrate`."""

from mesh_common.service_main import service_main

from mesh_agent.settings import AgentMigrationSettings, AgentSettings

if __name__ == "__main__":
    service_main(
        "agent",
        settings_class=AgentSettings,
        migration_settings_class=AgentMigrationSettings,
    )
