"""The server's settings: command line over environment over YAML file over defaults."""

from gradwire_server.config.loading import SettingsError, load_settings
from gradwire_server.config.settings import ENV_PREFIX, Settings

__all__ = ["ENV_PREFIX", "Settings", "SettingsError", "load_settings"]
