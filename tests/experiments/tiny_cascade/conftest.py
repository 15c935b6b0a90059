"""The minute cascade of the commands' tests serves the evaluation too."""

from commands.conftest import bundle, music_folder, tokens, workdirs

__all__ = ['bundle', 'music_folder', 'tokens', 'workdirs']
