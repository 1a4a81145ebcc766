"""Names of this machine for itself, by which alone a page or server that is not open to others is called."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def host_name(host: str) -> str:
    """
    Takes the name out of a `Host` header.

    Args:
        host (`str`): Name or address, perhaps with a port.

    Returns:
        `str`: In lower case, without port and brackets.

    Example:

    ```python
    >>> from seed_hf.loopback import host_name

    >>> host_name("LocalHost:8000"), host_name("[::1]:8000"), host_name("[::1]")
    ('localhost', '::1', '::1')

    ```
    """
    # a port comes behind the last colon; an address of version 6 stands in brackets
    name, _, port = host.rpartition(":")
    return (name if port.isdigit() else host).strip("[]").lower()


__all__ = ["LOOPBACK", "host_name"]
