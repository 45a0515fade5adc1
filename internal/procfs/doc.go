// Package procfs reads what proc(5) says of processes: only what more than one package of minivmm wants to know, and only
// texts and numbers. What they mean is for the caller.
//
// Functions that take a text are parsers, and may be given anything. Nothing is kept between two calls, and nothing has to
// be closed; any goroutine may call anything.
package procfs
