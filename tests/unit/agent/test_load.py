"""The CPU share that a process measures."""

from dataclasses import dataclass

from mesh_agent.execution.load import CpuShare


@dataclass
class Clocks:
    now_s: float = 100.0
    used_s: float = 7.0

    def share(self) -> CpuShare:
        return CpuShare(lambda: self.now_s, lambda: self.used_s)

    def go_on(self, passed_s: float, used_s: float) -> None:
        self.now_s += passed_s
        self.used_s += used_s


def test_nothing_is_said_before_there_was_time_to_look() -> None:
    clocks = Clocks()
    share = clocks.share()
    clocks.go_on(0.1, 0.1)

    assert share() == 0.0


def test_share_is_what_was_used_of_the_time_that_passed() -> None:
    clocks = Clocks()
    share = clocks.share()
    clocks.go_on(2.0, 1.5)

    assert share() == 0.75


def test_share_follows_what_the_process_does_now() -> None:
    clocks = Clocks()
    share = clocks.share()
    clocks.go_on(10.0, 10.0)
    busy = share()
    clocks.go_on(1.0, 0.1)

    assert busy == 1.0
    assert abs(share() - 0.1) < 1e-9


def test_several_threads_make_no_more_than_one_core() -> None:
    clocks = Clocks()
    share = clocks.share()
    clocks.go_on(1.0, 1.7)

    assert share() == 1.0
