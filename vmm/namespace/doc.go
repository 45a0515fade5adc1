// Package namespace begins the program anew in namespaces of its own.
//
// A namespace is a thread's, and a Go program has many threads before its first
// line runs. So the program enters them on one thread and executes itself: that
// ends all other threads, and what runs then is in those namespaces as a whole,
// with the kernel's workers that it asks for.
//
//   - net, mount, uts and ipc: the process itself goes on, by execve(2). Its
//     pid, its terminal and its parent stay.
//   - user and pid can only be had by a process made in them. So there is a child, and
//     the first process waits for it: it passes on signals and the exit code, and
//     if it is killed the child is (PR_SET_PDEATHSIG).
//
// [Enter] is the first part; [Settle], in the program begun anew, does what can only be
// done inside: a /proc for the new process ids, the host name, the loopback interface.
//
// Source: namespaces(7), user_namespaces(7), pid_namespaces(7).
//
// A signal that the terminal sends reaches the child by itself, and only others are passed
// on. Before the child has called [Ready] a signal is its end, whatever the runtime makes of it. SIGSTOP stops the first process and not the child.
package namespace
