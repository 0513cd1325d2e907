"""The PromQL language: text in, checked syntax tree out. Nothing here evaluates."""
