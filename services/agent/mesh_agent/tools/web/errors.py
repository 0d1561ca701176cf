"""How a fetch ends, and the errors that tell a model so. No text names an address or says why a host is refused."""

from enum import StrEnum

from langchain_core.tools import ToolException


class FetchOutcome(StrEnum):
    OK = "ok"
    REFUSED_URL = "refused_url"
    REFUSED_ADDRESS = "refused_address"
    REFUSED_TYPE = "refused_type"
    TOO_LARGE = "too_large"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    HTTP_ERROR = "http_error"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    UNREADABLE = "unreadable"


class FetchError(ToolException):
    """The page cannot be given to the model. The text is for the model."""

    def __init__(self, outcome: FetchOutcome, text: str) -> None:
        super().__init__(text)
        self.outcome = outcome


# The same text for a host that is unknown, unreachable or private: a model must not be able to map the network.
_NOT_PUBLIC = "This address cannot be fetched: the host is unknown, does not answer, or is not on the public internet."


def refused_address() -> FetchError:
    return FetchError(FetchOutcome.REFUSED_ADDRESS, _NOT_PUBLIC)


def unreachable() -> FetchError:
    return FetchError(FetchOutcome.UNREACHABLE, _NOT_PUBLIC)
