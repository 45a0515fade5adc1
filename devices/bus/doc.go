// Package bus is one address space of the guest that devices answer, memory
// mapped or port I/O: ranges, each with a Handler.
//
// A Bus is a leaf: it knows neither KVM nor any device. Lookups take no lock
// (vCPUs do them at every exit); attaching and detaching copy the table.
package bus
