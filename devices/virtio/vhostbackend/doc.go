// Package vhostbackend is the backend in the kernel: it translates an Activation into vhost calls,
// in the order that the kernel requires, and reverses them.
//
// Only the vhost worker uses the data path: the kick and call eventfds and the tap are never
// registered with Go's poller. The error eventfd of each ring is, because a worker that finds a bad
// ring stops serving it and reports this nowhere else.
package vhostbackend
