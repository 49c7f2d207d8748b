"""Templates and expressions over the values of a run.

An evaluation is cheap and runs in this process, or it runs in the isolation process with limits.

Modules:
    advice: What an author can write instead.
    analysis: Finds the names that a template uses.
    cost: Estimates the worst-case cost of a template from its source.
    environment: The minijinja environment that evaluates templates.
    errors: Converts every exception of an evaluation to one with a place in the text.
    evaluator: The functions that other packages call: render, evaluate, check.
    filters: The filters that minijinja lacks, and those that order or write texts.
    lexer: Finds expressions, statements and tokens in a text.
    lowering: Makes the source for minijinja: checked comparisons, and paths before `default`.
    messages: Own sentences for the messages of minijinja.
    names: The filters, tests, functions and statements that there are.
    ordering: Orders values of one type: comparisons, filters and tests.
    parser: Finds the operands of an expression, and writes it as the source for minijinja.
    secret_results: Collects the results of expressions that name secrets.
    texts: Writes values as texts, by one rule.
    views: Read-only views of run data, which count the data that a template reads.
"""
