"""The operations: one module per HTTP function; module, function and operationId share one name."""
