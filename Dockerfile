# The embedded service: one static program, its data in /data. `make image` builds it, from the
# folder that `make release` writes. There is no base image: certificates of authorities and time
# zones are in the program.
FROM scratch
ARG TARGETARCH
COPY --chown=65532:65532 folders/ /
COPY ${TARGETARCH}/ocelot /ocelot
USER 65532:65532
EXPOSE 8080
VOLUME /data
ENTRYPOINT ["/ocelot"]
CMD ["dev", "--addr", "0.0.0.0:8080", "--data", "/data"]
