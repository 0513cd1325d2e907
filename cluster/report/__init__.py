"""How reports look: one page, one style sheet, one way to draw what happened over time.

What a report says is its maker's (``simulation/report/``, the command's ``chaos/report.py``); here is how it is written
down. Each report is one HTML file that needs nothing else. Pure: records in, markup out.
"""
