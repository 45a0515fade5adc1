// Package procfs reads process information from proc(5). It contains only what several packages of
// minivmm need, and returns texts and numbers without interpreting them.
//
// Functions that take a text are parsers and accept any input. The package keeps no state and
// nothing needs to be closed; all functions are safe for concurrent use.
package procfs
