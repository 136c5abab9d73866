"""What is wrong with a setting."""


class SettingError(Exception):
    """A setting is unknown or its value cannot be used; names the key."""

    def __init__(self, key: str, why: str, advice: str) -> None:
        super().__init__(f"{key}: {why}")
        self.key, self.why, self.advice = key, why, advice
