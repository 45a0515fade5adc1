// Package e2e contains the end-to-end tests. They start minivmm as a person would, with real
// guests, and check its output, its exit code and what it leaves behind.
//
// The tests need KVM, vhost and the minivmm program that "make build" builds. The environment
// variable MINIVMM_BINARY can name another program.
package e2e
