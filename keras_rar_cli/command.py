"""`main`: parse, check, load the package without TensorFlow's log lines, and run the command."""

import contextlib
import os
import sys
from collections.abc import Iterator

from keras_rar_cli import checks, parser
from keras_rar_cli.errors import UserError


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments. Defaults to those of the process.

    Returns:
        The exit code: 0; 2 after a mistake of the user, described in one line; 130 after an interruption.

    Example:

    >>> main(["explain", "no_such_model.keras", "image.png"])
    2
    """
    try:
        arguments = parser.parse(argv)
        checks.check(arguments)
        with _quiet_tensorflow():
            from keras_rar import cli
        cli.run(arguments)
    except (UserError, ValueError, TypeError, OSError, ImportError) as error:
        print(f"keras-rar: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nkeras-rar: interrupted. Run the same command again to continue an evaluation.", file=sys.stderr)
        return 130
    return 0


@contextlib.contextmanager
def _quiet_tensorflow() -> Iterator[None]:
    """Load TensorFlow, with the backend that is needed and without what its libraries print.

    Some lines come before TensorFlow reads `TF_CPP_MIN_LOG_LEVEL`, and go to the file descriptor and not to
    `sys.stderr`; so the descriptor is turned away until the devices have been looked for. Errors are exceptions.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    if sys.stderr.isatty():
        print("loading TensorFlow", file=sys.stderr)  # it takes seconds
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever other work in this shell uses
    sys.stderr.flush()
    try:
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # there is no such descriptor, so nothing is printed
        yield
        return
    os.dup2(nowhere, 2)
    try:
        import tensorflow as tf

        tf.config.list_logical_devices()
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
