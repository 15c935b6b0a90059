"""What was learned: judges, statistics, baselines, cheats, gates, report."""
