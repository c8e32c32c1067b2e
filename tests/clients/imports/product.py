"""What a product has to say of itself so that its configurations can be compared with what `plimsoll import` makes of them.

A new product is a file beside this one with a class `Product` of these methods, and a name in `equivalence.PRODUCTS`. Its
cases are the folders of `tests/import/PRODUCT` that have an `equivalence.json`; what may stand there is told in `case`."""
import re

import stand


class Product:
    """A product of others. `name` is its folder in `tests/import`, and the word behind `plimsoll import`."""

    name = ""
    # Differences that the general remarks of every report of this product announce: (kind, where, text of the report,
    # and where that is needed a pattern for the request or the phase, and one for what both sides did).
    announced = ()

    def sources(self, folder):
        """The files of a case that are the configuration, in the order in which they are read."""
        raise NotImplementedError

    def adapt(self, text, site):
        """The text as both sides read it: names of certificates, users, sockets and times of checks become those of the
        suite, and what is bound to all addresses is bound to `site.ours` alone. `site` also has `certificate` (certificate and key in one PEM file), `crt`, `key`, `authority` and `folder`."""
        raise NotImplementedError

    def start(self, files, environment, site):
        """Starts the original; gives an `Original`."""
        raise NotImplementedError


class Original:
    """The running original."""

    process = None

    def states(self):
        """What it thinks of its servers: address ("10.0.0.1:80") to whether it would use it. A server that it does not
        check is left out. Nothing where it does not tell: then so long is waited that checks must have been made."""
        return None

    def stop(self):
        # A daemon may wait for its connections: those of the suite are all over.
        self.process.stop(stand.signal.SIGKILL)


def replace(text, pairs):
    for pattern, by in pairs:
        text = re.sub(pattern, by, text, flags=re.MULTILINE)
    return text
