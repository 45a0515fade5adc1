// Package e2e contains the end-to-end tests. They start the program minivmm as a person would, with
// real guests, and check its output, its exit and what it leaves behind.
//
// They need KVM, vhost and the program. They run the one that "make build" builds, unless
// MINIVMM_BINARY names another one.
package e2e
