// Package bus is an address space of the guest that devices serve, memory mapped or port I/O: a set
// of ranges, each with a Handler.
//
// The package depends neither on KVM nor on any device. Lookups take no lock: vCPUs do one at every
// exit.
package bus
