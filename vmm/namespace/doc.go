// Package namespace restarts the program in new namespaces.
//
// A thread enters a namespace, not a process, and a Go program has many threads before its first
// line runs. So the program enters the namespaces on one thread and then executes itself, which
// terminates the others. The new program is inside as a whole, and so are its kernel workers.
//
//   - net, mount, uts and ipc: the process itself continues, by execve(2). It keeps its pid, its
//     terminal and its parent.
//   - user and pid: only a process created in these namespaces is in them. So a child is created,
//     and the first process waits for it. It passes on signals and the exit code. If it is killed,
//     the child is killed too (PR_SET_PDEATHSIG).
//
// [Enter] is the first part. [Settle] runs in the restarted program and does what is possible only
// inside: it mounts /proc for the new process ids, sets the host name, and brings up loopback.
//
// Source: namespaces(7), user_namespaces(7), pid_namespaces(7).
//
// A signal from the terminal reaches the child on its own; the first process passes on only the
// others. Until the child has called [Ready], a signal terminates it, whatever the runtime makes of
// it. SIGSTOP stops the first process and not the child.
package namespace
