// Package serial is a 16550A UART, a PC's COM1 (National Semiconductor PC16550D
// data sheet; Linux drivers/tty/serial/8250).
//
// What the guest transmits reaches a writer byte by byte, at once: the
// transmitter is always empty. What the host sends waits in a receive FIFO of 16
// bytes and, when that is full or the guest does not listen, with the caller:
// nothing is dropped and nothing grows. There is no line speed, no parity and
// no break; divisor and line control are registers that only remember.
//
// The interrupt is described to the guest as edge triggered, so there is no
// level to lower: raise is called for every new cause that the guest enabled.
//
// A UART has one mutex. It holds no descriptor and starts no goroutine; raise
// and the writer belong to the caller and must not block.
package serial
