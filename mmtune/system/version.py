"""The version of mmtune."""

VERSION = "0.1.0"
