package usernet

import (
	"time"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// Compile-time check that MonotonicTime has the size of a Duration.
var _ [unsafe.Sizeof(tcpip.MonotonicTime{})]byte = [unsafe.Sizeof(time.Duration(0))]byte{}

// monotonic returns tcpip.MonotonicTime{}.Add(d), which would take as long as reading the clock.
func monotonic(d time.Duration) tcpip.MonotonicTime {
	return *(*tcpip.MonotonicTime)(unsafe.Pointer(&d))
}
