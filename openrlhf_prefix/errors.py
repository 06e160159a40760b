"""The one exception for mistakes that the user can mend; the command line prints it and exits with 2."""


class UserError(ValueError):
    """One sentence that names the cause and the mend, raised before anything expensive starts."""
