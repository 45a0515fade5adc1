// Package agent is the protocol between the host and the init of an emulated host or a guest: the plan, the command, and
// the channel that the command comes by.
//
// The plan is JSON in the initial RAM file system. The channel is a byte stream, a virtio-serial port, which carries frames:
// byte 0 is the kind, bytes 1 to 4 the payload's length, big endian, then the payload follows. So standard input, output and
// error pass binary-clean and unmixed, and their ends and the exit status with them. A Session is the host's side of it.
//
// Send of a Conn may be called by any number of goroutines, Receive by one. A Session belongs to one command.
package agent
