/*
 * server_cpu.h
 *	  The processor time of a server of PostgreSQL, by the kernel's books.
 */
#ifndef PREBUILD_BENCH_SERVER_CPU_H
#define PREBUILD_BENCH_SERVER_CPU_H

/* Seconds that a process took; 0 if it is gone. */
extern double process_cpu(int pid);

/*
 * Seconds that a postmaster and its children took, those that have ended included. Ends the program
 * with 1 if there is no such postmaster.
 */
extern double server_cpu(int postmaster);

#endif /* PREBUILD_BENCH_SERVER_CPU_H */
