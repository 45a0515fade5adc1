// Package wire is what the launcher of an emulated host or a guest and the init in it say to each other over one byte stream, a
// virtio-serial port: frames of a kind, a length and that many bytes. So standard input, output and error pass binary-clean
// and unmixed, and their ends and the exit status with them.
//
// Frame: byte 0 the kind, bytes 1 to 4 the payload's length, big endian, then the payload.
//
// Send may be called by any number of goroutines, Receive by one.
package wire
