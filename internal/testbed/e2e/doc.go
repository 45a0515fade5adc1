// Package e2e holds the end-to-end tests: they start the program minivmm as a person would, with real guests, and look at what it
// says, how it ends and what it leaves behind.
//
// They need KVM, vhost and the program, which "make build" makes; MINIVMM_BINARY names another one.
package e2e
