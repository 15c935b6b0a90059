"""The one table: stage name -> builder of its task from a config.

Only this file and the doors read configs; a bundle stores the resolved config
as JSON and is rebuilt here.
"""
