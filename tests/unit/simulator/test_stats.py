from simulator.stats import RequestRecord, Stats


def begin(stats: Stats, key: str | None = None, body: bytes = b"{}") -> RequestRecord:
    return stats.begin(kind="chat", model="m", key=key, body=body)


def test_tokens_count_in_total_and_by_key() -> None:
    stats = Stats(request_log=10)
    keyed, plain = begin(stats, "k"), begin(stats)

    stats.sent(keyed, 3)
    stats.sent(keyed, 2)
    stats.sent(plain, 10)

    figures = stats.as_json()
    assert (figures["tokens"], figures["tokens_by_key"], figures["requests_by_key"]) == (15, {"k": 5}, {"k": 1})


def test_only_the_first_end_of_a_request_counts() -> None:
    stats = Stats(request_log=10)
    record = begin(stats)

    stats.end(record, "client_left")
    stats.end(record, "completed")

    assert stats.as_json()["outcomes"] == {"client_left": 1}


def test_the_log_keeps_the_last_requests() -> None:
    stats = Stats(request_log=3)

    for number in range(5):
        begin(stats, body=b"%d" % number)

    assert [request["body"] for request in stats.last_requests(10)] == [2, 3, 4]
    assert [request["body"] for request in stats.last_requests(1)] == [4]
    assert stats.last_requests(0) == []


def test_the_log_is_bounded_in_bytes() -> None:
    stats = Stats(request_log=100)

    for _ in range(10):
        begin(stats, body=b"x" * 8 * 1024 * 1024)

    assert len(stats.last_requests(100)) == 4
