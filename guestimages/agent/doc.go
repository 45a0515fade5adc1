// Package session is the launcher's side of a command that minivmm's init runs in a machine: it sends the command over the
// channel (package wire), hands standard input, terminal sizes and signals in, output out, and returns how the command
// ended. Package emuhost uses it for the emulated host, minivmm for its default guest.
//
// A Session belongs to one command. Close ends its goroutines.
package session
