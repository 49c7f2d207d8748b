"""Triggers: how late they fire.

- `schedules`: schedules that are due in the same minute (row 20).
"""
