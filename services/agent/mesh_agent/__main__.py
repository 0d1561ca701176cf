"""`python -m mesh_agent serve|migrate|doctor|assistants-check|dead-letters`."""

import sys

from mesh_common.service_main import service_main

from mesh_agent.settings import AgentMigrationSettings, AgentSettings


def main() -> None:
    if sys.argv[1:2] == ["doctor"]:
        from mesh_agent.doctor.command import doctor_main  # noqa: PLC0415 - the other commands need none of it

        doctor_main(sys.argv[2:])
    elif sys.argv[1:2] == ["assistants-check"]:
        from mesh_agent.assistants_check import assistants_check_main  # noqa: PLC0415 - the same

        assistants_check_main(sys.argv[2:])
    else:
        service_main(
            "agent",
            settings_class=AgentSettings,
            migration_settings_class=AgentMigrationSettings,
            job_table="agent.outbox",
        )


if __name__ == "__main__":
    main()
