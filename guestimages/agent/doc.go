// Package agent is the protocol between the host and the init of an emulated host or a guest: the
// plan, the command, and the channel on which the command arrives.
//
// The plan is JSON in the initial RAM file system. The channel is a byte stream, a virtio-serial
// port, which carries frames. Byte 0 is the kind, bytes 1 to 4 are the payload's length, big
// endian, then the payload follows. So standard input, output and error stay binary-clean and
// separate, with their ends and the exit status. A Session is the host's end of the channel.
//
// Send of a Conn is safe for concurrent use; Receive must be called by one goroutine at a time. A
// Session belongs to one command.
package agent
